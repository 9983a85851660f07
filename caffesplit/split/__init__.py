"""Deciding what to split and rewriting nets and weights accordingly. Pure."""
