"""Settings, the secret key and where the program is installed."""
