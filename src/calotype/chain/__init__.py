"""`calotype run`: the whole chain on whatever images there are, stage by stage, and its report."""
