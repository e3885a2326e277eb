"""What can be made of recorded events?"""
