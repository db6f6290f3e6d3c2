"""Analysis of encoders: what parts compute, and what follows where blocks are moved, replaced, removed or frozen."""
