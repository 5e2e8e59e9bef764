"""Who may call: API keys and single-use tickets."""
