"""How one table gets in front of readers, in which order tables do, and how one is taken back."""
