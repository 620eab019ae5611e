"""The ceiling of an instruction mix."""
