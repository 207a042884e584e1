"""A user's own package: small stand-ins for everything that a method, data set or network may be."""
