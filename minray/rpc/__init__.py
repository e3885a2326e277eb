"""Whole messages between processes: framed channels, and the loop that decides who reads them."""
