package postbox.interop;

import java.util.concurrent.TimeoutException;

/** {@code Main MODE BOOTSTRAP TOPIC COUNT SECONDS}: one JSON line a record on standard output. */
public final class Main {

    private Main() {
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 5) {
            System.err.println("usage: Main record|fail|events|dlt|produce BOOTSTRAP TOPIC COUNT SECONDS");
            System.exit(2);
        }
        Task task = new Task(arguments[1], arguments[2], Integer.parseInt(arguments[3]),
                Integer.parseInt(arguments[4]));
        try {
            run(arguments[0], task);
        } catch (TimeoutException e) {
            System.err.println(e.getMessage());
            System.exit(1);
        }
        System.exit(0);
    }

    private static void run(String mode, Task task) throws Exception {
        switch (mode) {
            case "record" -> Recorder.record(task);
            case "fail" -> Recorder.fail(task);
            case "events" -> Reader.read(task, Reader.Events.class);
            case "dlt" -> Reader.read(task, Reader.DeadLetters.class);
            case "produce" -> Writer.produce(task);
            default -> throw new IllegalArgumentException("no such mode: " + mode);
        }
    }
}
