"""Names of the facts that a failed run notes in its failure, and that its alert is made from."""

# What an alert recognizes the failure by.
REFUSED = "refused_selection"
