//! Pages drawn from artifacts alone; deletable, always remade.
