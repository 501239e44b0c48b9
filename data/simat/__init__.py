"""SIMAT (thesis, section 3.2): its triplets, queries, captions and oracles, built anew or read from its release."""
