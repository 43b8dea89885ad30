"""The appliance as a whole: `coatcheck up`, jobs with real clients, real services outside."""
