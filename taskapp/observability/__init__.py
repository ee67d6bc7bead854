"""Logs, metrics and availability."""
