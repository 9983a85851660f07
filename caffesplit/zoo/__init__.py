"""Nets and solvers that ship with the package."""
