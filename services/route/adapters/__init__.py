"""How route meets the bus: opening jobs, answering asks, writing reports."""
