"""Logs, metrics, traces and availability."""
