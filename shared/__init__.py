"""What every service stands on: bus, worker loop, groups, claims, settings, telemetry."""
