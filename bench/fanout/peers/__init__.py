"""
What the fan-out is compared with. Each program takes lines by TCP at one port (nchan: by POST) and shows them to the
WebSocket viewers at another; it prints ``{"ready": true}`` when it listens.
"""
