"""The ground everything stands on: settings, database, security, logging, metrics. Imports nothing above it."""
