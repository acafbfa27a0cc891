package pocketopt.whisper

import android.content.Context
import android.system.Os
import java.io.File

/** Opens the models among the app's assets; the first call copies them into its files, once for each version. */
object WhisperAssets {

    fun open(context: Context, threads: Int = 0): Whisper {
        val libraries = File(context.applicationInfo.nativeLibraryDir)
        // The NPU's own half of the runtime is found by this path; it has to be set before the first session.
        Os.setenv("ADSP_LIBRARY_PATH", libraries.path, true)
        return Whisper.open(copied(context), libraries, threads)
    }

    /** ONNX Runtime reads files, and a context binary has to lie beside its wrapper. */
    private fun copied(context: Context): File {
        val place = File(context.filesDir, "whisper-" + ModelFacts.BUILD)
        if (place.isDirectory) return place
        val part = File(context.filesDir, place.name + ".part")
        part.deleteRecursively()
        for (folder in listOfNotNull(ModelFacts.NPU_FOLDER, ModelFacts.CPU_FOLDER)) {
            File(part, folder).mkdirs()
            for (name in context.assets.list(folder) ?: emptyArray()) {
                context.assets.open("$folder/$name").use { source ->
                    File(part, "$folder/$name").outputStream().use { source.copyTo(it) }
                }
            }
        }
        check(part.renameTo(place)) { "the models could not be copied to $place" }
        return place
    }
}
