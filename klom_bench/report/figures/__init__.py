"""Figures, as papers of the field draw them: with matplotlib, which makes SVG, PDF and PNG of one.

It is of the extra `report`; nothing here is imported before `report.extra` has looked for it.
"""
