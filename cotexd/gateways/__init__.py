"""The outside world, one file a service. What comes back is values; what goes wrong is in the catalogue of errors."""
