"""The claims of the textbook as experiments: each states a claim, measures it, and says whether it held."""
