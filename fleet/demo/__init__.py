"""The demonstration: real work on a real fleet, a host destroyed in the middle, and the count."""
