"""The JSON API: one handler class for each route, and its OpenAPI description."""
