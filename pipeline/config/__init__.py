"""Settings: their types, the checks that types cannot express, errors in one sentence."""
