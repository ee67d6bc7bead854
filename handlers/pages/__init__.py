"""The pages: a handler class for each route, and their base."""
