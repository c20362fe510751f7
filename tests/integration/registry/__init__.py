"""The registry client against real and bad registries."""
