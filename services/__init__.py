"""The services: each takes steps from the bus and stands on `shared` and `contracts` alone."""
