"""The pages: one handler class for each route, and what all of them share."""
