"""Benches: what Penstock does per second and per question, beside others on the same machine."""

import shared as shared  # before numpy: how many threads its library takes, as in the services
