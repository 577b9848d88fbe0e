"""Pictures of a scan: one figure of the steps done so far."""
