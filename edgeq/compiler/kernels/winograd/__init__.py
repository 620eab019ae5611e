"""3×3 convolutions by minimal filtering, exact."""
