"""The scaler: sizes the API's Deployment by what the proxies see. So far its decisions are here, and a simulation of them.

One round, as planned: scrape every proxy -> window -> forecast and calendar -> decide -> patch the Deployment's scale.
"""
