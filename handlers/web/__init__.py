"""The application, the server and the base handler, on Tornado; no route is here."""
