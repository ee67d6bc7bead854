"""The JSON API: one handler class for each route, and the OpenAPI document."""
