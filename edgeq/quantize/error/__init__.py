"""What a choice does to the network's final output, without labels."""
