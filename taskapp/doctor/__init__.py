"""Diagnoses of an installation, each with its fix."""
