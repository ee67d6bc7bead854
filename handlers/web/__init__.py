"""Tornado's application, server and base handler, adapted; no route is here."""
