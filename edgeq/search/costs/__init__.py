"""What a form of a layer costs on the target: measured, counted, or estimated with its error."""
