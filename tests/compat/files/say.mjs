// The same as a module.
import './say.js';
