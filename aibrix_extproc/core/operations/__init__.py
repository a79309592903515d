"""Operations over engines: their table, answers, runs and plans, and what keeps adapters as they are wanted. Pure."""
