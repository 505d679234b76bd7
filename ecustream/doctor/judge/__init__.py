"""Says what the facts mean for capture and scoring; nothing here reads them."""
