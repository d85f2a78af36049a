"""What somebody hostile would try against the whole house; attacks on one room stand with that room's tests."""
