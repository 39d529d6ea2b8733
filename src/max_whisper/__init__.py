"""OpenAI Whisper on MAX."""
