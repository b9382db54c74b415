"""The user's own code: found and imported, its sources read, carried to workers, hashed, named."""
