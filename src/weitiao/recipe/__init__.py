"""How the parts meet: a recipe is model + data + method + objective + training; this room alone knows them all."""
