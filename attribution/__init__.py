"""Decides who earns a sale and what; its rules are pure functions of recorded events."""
