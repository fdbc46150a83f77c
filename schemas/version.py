"""The engine's version: stored with every decision, so that a later engine can say which rule decided."""

ENGINE_VERSION = "0.1.0"
