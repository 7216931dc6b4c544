"""Example applications, and the receiver their effects go to."""
