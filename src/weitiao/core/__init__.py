"""What every other room stands on: settings, registry, errors, units, events and run folders; no torch here."""
