"""The textbook's claims as experiments: each states a claim, measures it, and says whether it held."""
