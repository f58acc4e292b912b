"""What a request costs: Stockroom beside the hand-written minimum, in one run (`make bench`)."""
