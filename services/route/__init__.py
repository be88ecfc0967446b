"""route: opens jobs, decides, renders; patterns and prompts live here."""
